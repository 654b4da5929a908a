"""The form and the approvals in a browser: what is shown there is shown by the same functions, and signed the same way."""
