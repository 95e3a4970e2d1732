"""Who belongs to a leaderless cluster, and where keys lie: gossip, members, rings."""
