"""One customer: which records are accepted, and what is held of them.

Orders, engagement and consent each fold into the customer's state; `customer` applies a record to all of them.
"""
