"""Tables as files: text, arrays and Parquet read strictly, written whole."""
