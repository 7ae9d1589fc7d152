"""What people do with a whole running Darkroom; a package, so that its stack ends with the last of these tests."""
