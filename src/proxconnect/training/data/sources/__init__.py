"""Where pictures come from: one reader a file, none of which trusts what it reads."""
