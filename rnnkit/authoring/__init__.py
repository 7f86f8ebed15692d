"""What an author uses: lessons, ledgers and the reference page, made of solutions and docstrings."""
