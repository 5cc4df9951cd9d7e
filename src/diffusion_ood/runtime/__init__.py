"""What touches the machine: devices, processes, files and progress."""
