"""The playground: a cluster to break by a click, clients that ask all the while, a verdict on what they are told."""
