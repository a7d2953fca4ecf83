"""A server of OpenAI's API: a front that speaks HTTP and knows texts, and engines in processes of their own that know
ids. The front never imports torch."""
