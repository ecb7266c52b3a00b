"""Client libraries, unchanged, against a real `trivet serve`: docs/compatibility.md."""
