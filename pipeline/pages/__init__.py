"""What pages are made of: layout, tables, charts; and the pages of predictions."""
