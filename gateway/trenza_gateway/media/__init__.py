"""Where pictures wait for whoever has their link: a store behind one interface, and its links."""
