"""INT8: which samples set its ranges, which layers it spares, and whether it may ship."""
