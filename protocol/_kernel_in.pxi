# Stream, Builder, encode: from blocks to columns.
