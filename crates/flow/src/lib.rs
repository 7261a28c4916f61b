//! Flow records: ring, filters, text and JSON forms
