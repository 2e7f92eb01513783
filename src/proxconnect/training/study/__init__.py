"""Studies: grids of training runs, a ledger of their results, and tables, pictures and checks of the ledger.

A grid file (`grid`) expands to rows (`rows`), each with an address. Processes or a Ray cluster run them (`running`).
Each finished row becomes a line of the ledger (`ledger`), from which all results come (`results`).
"""
