"""What customers will buy and spend: the families of lifetime value, on arrays."""
