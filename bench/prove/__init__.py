"""Can this machine, and bench on it, be believed?"""
