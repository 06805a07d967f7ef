"""A human hand and arm that can be drawn, posed and closed on things. No physics: whoever moves it says where it is."""
