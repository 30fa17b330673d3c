"""Tables: columns and their units, the estimator, what is evaluated, the density on a grid."""
