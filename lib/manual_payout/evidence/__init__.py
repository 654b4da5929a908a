"""The evidence folder of one payout: what is in it, how it is read, and how it is sealed."""
