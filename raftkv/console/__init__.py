"""Pages for people, which every node serves of itself."""
