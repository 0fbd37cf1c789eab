"""Whether the data is right: the tests of a batch's rows before bronze takes them in, and the audit of everything."""
