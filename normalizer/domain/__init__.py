"""What an address and a document are, and the rules that read them. Pure: no I/O, no third-party client."""
