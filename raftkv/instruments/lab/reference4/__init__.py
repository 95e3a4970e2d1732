"""The sixteen runs of the fourth reference system: four choices of N, R and W under four ratios of writes to reads."""
