"""One file a step; the number in front orders them."""
