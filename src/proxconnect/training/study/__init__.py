"""Studies: a grid of training runs as a ledger that grows, and tables, pictures and checks made of it.

A grid file (`grid`) is expanded to rows (`rows`), each with an address of its own. Worker processes or a Ray cluster
run them (`running`), and each finished row becomes one line of the ledger (`ledger`), of which all else is made.
"""
