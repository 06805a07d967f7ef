"""How well ``stvla human process`` finds what synthetic videos of hands truly show."""
