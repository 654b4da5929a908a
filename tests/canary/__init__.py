"""Every secret has a value that occurs nowhere else; incidents go wrong in every way; every byte is searched for it."""
