"""Other people's tests, held against our engine, our provisioner and our sandbox."""
