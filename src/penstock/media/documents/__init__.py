"""Reads documents page by page: PDF, Word, PowerPoint, Excel, EPUB and e-mail.

`reader.read_pages` is the way in. Every parser runs in a child process of bounded memory and time (`child`), and what
it returns comes back as plain numbers and text (`frames`), so that no document can harm the process that needs it.
"""
