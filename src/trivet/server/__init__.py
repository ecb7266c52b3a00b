"""The HTTP edge: who may ask, bytes in, bytes out, and errors that say whose fault it is."""
