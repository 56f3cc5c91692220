# Rows: from columns back to bytes. (Builder K2 writes here.)
