"""One real use of each package: uses.<module>.use(seed).

A use does what people do with the package, checks the results against values
that are known without it, closes all that it opened, and prints nothing. It can
be repeated, and run in several interpreters at the same time.
"""
