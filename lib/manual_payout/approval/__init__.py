"""From the form to two approvals: the request, the facts that are fetched afresh, the rules that judge them, and who said yes to exactly that."""
