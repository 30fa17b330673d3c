"""Images as files: folders of pictures, arrays, IDX; read strictly, written whole."""
