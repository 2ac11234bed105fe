"""PostgreSQL, the only truth: schema, connections and every statement the application runs."""
