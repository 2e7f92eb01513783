"""Studies: grids of training runs (`grid`), a ledger of their results (`ledger`), and tables of it (`results`)."""
