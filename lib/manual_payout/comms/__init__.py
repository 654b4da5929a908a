"""What is said to whom: the Slack message for the payments channel and the email to the studio (SOP step 5)."""
