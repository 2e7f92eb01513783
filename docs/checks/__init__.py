"""Do the pages say what is so? `python -m checks SITE` from docs/ answers for a site that was built."""
