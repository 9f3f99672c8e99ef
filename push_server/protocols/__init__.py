"""What clients speak: frames in and out. Pure.

`plain`: a frame is exactly what the handler gets, a message is exactly what the client gets.
`envelope`: `queue-run.v1`, where requests have answers of their own and a client can resume.
"""
