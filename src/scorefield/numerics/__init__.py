"""Numbers that know neither noise nor data: shapes, draws, an equation solver, Brownian paths, derivatives."""
