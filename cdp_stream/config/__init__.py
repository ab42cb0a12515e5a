"""What the user wrote: the topology, typed and checked."""
