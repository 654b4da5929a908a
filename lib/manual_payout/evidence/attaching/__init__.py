"""Hand a sealed folder over: as one archive, to a folder of the reviewers or to the incident's ticket in Jira."""

from manual_payout.evidence.attaching.archive import Archive, archive_of, write_archive
from manual_payout.evidence.attaching.tickets import Attached, Jira, comment_text, issue_of, open_jira

__all__ = ["Archive", "Attached", "Jira", "archive_of", "comment_text", "issue_of", "open_jira", "write_archive"]
