module tidegate.dev/dev/pause

go 1.25.0
