"""The suite, in folders that mirror the code. Its tools (support, fakes) are typed."""
