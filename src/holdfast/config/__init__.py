"""What the user chose: the places that Holdfast uses on this machine, and the secrets that open vaults."""
