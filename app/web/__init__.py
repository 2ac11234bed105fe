"""The pages a colleague sees in the browser."""
