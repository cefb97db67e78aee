"""From a customer's aggregates to features, scores and standings, on arrays of many customers and days."""
