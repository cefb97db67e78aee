"""Lifetime value: how many purchases to expect of a customer, and how much money, on arrays of customers."""
