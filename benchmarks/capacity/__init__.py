"""How many of each process a rate of images needs, from what one image costs each of them."""
