"""ControlNets: the pictures that steer them (`hints`), and the networks (`nets`)."""
