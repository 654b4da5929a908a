"""The nouns of a manual payout: exact values, frozen records, one sentence a mistake. Everything may import this room; it imports no other."""
