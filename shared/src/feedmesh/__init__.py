"""What the services of feedmesh share; nothing here knows any one feed."""
